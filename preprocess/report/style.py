"""The style sheet of a report: light and dark, wide and narrow, no font or file from elsewhere."""

from __future__ import annotations

STYLE_SHEET = """
:root {
  color-scheme: light dark;
  --page: #fdfcfa; --panel: #ffffff; --ink: #1b1d21; --muted: #5d636e; --rule: #dfe1e5;
  --sparse: #c2480b; --dense: #2467b5; --third: #5d7f3a; --input: #b9bec7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --panel: #1b1e23; --ink: #e9e9e6; --muted: #a2a8b3; --rule: #343942;
    --sparse: #ff9147; --dense: #6db1ff; --third: #a5cf74; --input: #596070;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
.kicker { max-width: none; margin: 0 0 .75rem; color: var(--muted); font-size: .875rem; letter-spacing: .02em; }
h1 { max-width: 25em; margin: 0 0 1rem; font-size: clamp(1.6rem, 3.6vw, 2.5rem); line-height: 1.18;
  letter-spacing: -.015em; text-wrap: balance; }
h2 { max-width: 30em; margin: 0 0 .75rem; font-size: clamp(1.2rem, 2.2vw, 1.5rem); line-height: 1.25;
  letter-spacing: -.01em; text-wrap: balance; }
h3 { margin: 2rem 0 .5rem; font-size: 1.0625rem; }
p { max-width: 42em; margin: 0 0 1rem; }
section { margin-top: 3rem; padding-top: 2rem; border-top: 1px solid var(--rule); }
.standfirst { font-size: 1.1875rem; line-height: 1.5; }
.sparse { color: var(--sparse); font-weight: 600; }
.dense { color: var(--dense); font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 1.25rem 2rem; margin: 2rem 0 0;
  padding: 0; }
.figures div { padding-top: .75rem; border-top: 2px solid var(--ink); }
.figures dt { color: var(--muted); font-size: .875rem; line-height: 1.4; }
.figures dd { margin: .125rem 0 0; }
.figures .number { font-size: 1.75rem; line-height: 1.25; font-weight: 650; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }
.figures .against { font-size: .9375rem; line-height: 1.4; }
figure { margin: 1.5rem 0 0; }
figcaption { max-width: 46em; margin-top: .75rem; color: var(--muted); font-size: .9rem; line-height: 1.5; }
.pictures { display: grid; gap: 1.25rem; }
.pictures.two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
.pictures.three { grid-template-columns: repeat(3, minmax(0, 1fr)); grid-auto-flow: column;
  grid-template-rows: repeat(2, auto); }
.picture h3 { margin: 0 0 .375rem; font-size: .9375rem; line-height: 1.35; }
.picture img { display: block; width: 100%; height: auto; border: 1px solid var(--rule); background: var(--panel); }
.picture .frame { position: relative; }
.picture .below { margin: .375rem 0 0; color: var(--muted); font-size: .8125rem; line-height: 1.4; }
.bar { display: block; width: 100%; height: .625rem; margin-top: .5rem; }
.picture img.bar { width: 100%; height: .625rem; border: 0; }
.ticks { display: flex; justify-content: space-between; color: var(--muted); font-size: .8125rem;
  font-variant-numeric: tabular-nums; }
.scale { max-width: 24rem; margin-top: 1rem; }
.scale img { display: block; width: 100%; height: .625rem; }
.scale p { margin: 0 0 .25rem; font-size: .8125rem; color: var(--muted); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .5rem 0 0; padding: 0; list-style: none;
  font-size: .875rem; line-height: 1.4; }
.legend svg { width: 1.75rem; height: .75rem; margin-right: .4rem; vertical-align: baseline; }
.dot { display: inline-block; width: .75rem; height: .75rem; margin-right: .4rem; border-radius: 50%; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(23rem, 100%), 1fr)); gap: 1.5rem 2rem;
  margin-top: 1rem; }
.chart { display: block; width: 100%; height: auto; max-width: 40rem; }
.chart text { font-family: inherit !important; }
.beside { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 2rem; align-items: start; }
.scroll { overflow-x: auto; margin-top: 1.25rem; }
table { border-collapse: collapse; font-size: .9rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
.scroll > table { min-width: 100%; }
caption { padding-bottom: .5rem; text-align: left; font-weight: 600; }
th, td { padding: .375rem .75rem; text-align: right; vertical-align: top; border-top: 1px solid var(--rule);
  white-space: nowrap; }
th:first-child, .words td, .two-words td:nth-child(2), .two-words th:nth-child(2) { text-align: left; }
tbody th { min-width: 6.5rem; white-space: normal; }
tbody tr:last-child > * { border-bottom: 1px solid var(--rule); }
tr.same > * { border-top: 0; padding-top: 0; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 500; vertical-align: bottom; border-top: 0; }
thead + tbody tr:first-child > * { border-top-color: var(--muted); }
tbody th { font-weight: 500; }
.words td { white-space: normal; overflow-wrap: anywhere; }
.words th { padding-right: 1.25rem; }
small { display: inline-block; font-size: .8125rem; line-height: 1.4; color: var(--muted); font-weight: 400; }
.note { max-width: 52em; margin-top: .75rem; font-size: .8125rem; line-height: 1.5; color: var(--muted); }
.tick { display: inline-block; width: 2px; height: .9rem; margin: 0 .75rem 0 .3rem; background: var(--ink);
  vertical-align: -.1rem; }
pre { margin: 0 0 1rem; padding: .875rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel);
  border: 1px solid var(--rule); border-radius: .25rem; font-size: .85rem; line-height: 1.5; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
pre .purpose { color: var(--muted); }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--rule); color: var(--muted);
  font-size: .875rem; }
@media (max-width: 56rem) {
  .beside { grid-template-columns: minmax(0, 1fr); }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (max-width: 44rem) {
  main { padding: 1.5rem 1rem 3rem; }
  body { font-size: 1rem; }
  .pictures.three { grid-template-columns: repeat(2, minmax(0, 1fr)); grid-auto-flow: row;
    grid-template-rows: none; gap: 1rem .75rem; }
}
@media (max-width: 30rem) { .pictures.two, .figures { grid-template-columns: minmax(0, 1fr); } }
@media print { :root { color-scheme: light; } section { break-inside: avoid; } }
"""
