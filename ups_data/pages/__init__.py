"""The page layout: curve order, strata, dealing, draws and weights. Pure NumPy, no I/O."""

from ups_data.pages.blocks import FrameBlocks, cut_blocks
from ups_data.pages.cells import central_places, cut_cells
from ups_data.pages.curve import cloud_order, grid_order
from ups_data.pages.draw import CellDraw, PageDraw, PointDraw, draw_pages, page_budgets, page_shares
from ups_data.pages.layout import (
    PageLayout,
    PageTable,
    build_pages,
    default_block_points,
    default_num_strata,
    default_page_points,
)
from ups_data.pages.variance import draw_variances, page_sums, run_estimates, uniform_variance

__all__ = [
    "CellDraw",
    "FrameBlocks",
    "PageDraw",
    "PageLayout",
    "PageTable",
    "PointDraw",
    "build_pages",
    "central_places",
    "cloud_order",
    "cut_blocks",
    "cut_cells",
    "default_block_points",
    "default_num_strata",
    "default_page_points",
    "draw_pages",
    "draw_variances",
    "grid_order",
    "page_budgets",
    "page_shares",
    "page_sums",
    "run_estimates",
    "uniform_variance",
]
