"""What is to be converted and how: options and configuration files reach the manifest, or are refused."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import ups_data
from tests.memory_source import wave_frames
from tests.preprocess.cli.command_line import refused, run, told
from ups_data.schema import ClipSpec


def test_what_is_typed_reaches_the_manifest(waves: Path, tmp_path: Path) -> None:
    choices = [
        "--name",
        "mine",
        "--importance",
        "gradient=2,temporal_change=0.5,value",
        "--strata",
        3,
        "--page-points",
        16,
    ]
    more = ["--codec", "zstd", "--split", "train=0.6,test=0.4", "--seed", 7, "--format", "arrays"]
    assert run("convert", waves, tmp_path / "s", *choices, *more).exit_code == 0
    manifest = ups_data.open_store(tmp_path / "s").manifest
    assert (manifest.name, manifest.codec, manifest.splits) == ("mine", "zstd", {"train": 3, "test": 2})
    assert manifest.importance.metrics == {"gradient": 2.0, "temporal_change": 0.5, "value": 1.0}
    assert (manifest.layout.num_strata, manifest.layout.page_points, manifest.layout.seed) == (3, 16, 7)


def test_what_is_typed_stands_above_the_file(waves: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("codec: zstd\nseed: 3\nimportance: {metrics: {gradient: 1}, exponent: 1.5}\ndense: rebuilt\n")
    options = ["--config", config, "--codec", "blosc-lz4", "--importance", "temporal_change=1"]
    assert run("convert", waves, tmp_path / "s", *options).exit_code == 0
    manifest = ups_data.open_store(tmp_path / "s").manifest
    assert (manifest.codec, manifest.layout.seed, manifest.layout.dense) == ("blosc-lz4", 3, "rebuilt")
    assert (manifest.importance.metrics, manifest.importance.exponent) == ({"temporal_change": 1.0}, 1.5)


def test_a_metric_of_ones_own(waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loud_metrics.py").write_text(
        "import numpy as np\nfrom ups_data.importance import RootMeanSquareMetric\n\n\n"
        "class Loudness(RootMeanSquareMetric):\n    def update(self, frame):\n"
        "        self.add_squares(np.square(frame, dtype=np.float64))\n"
    )
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        assert run("convert", waves, tmp_path / "s", "--importance", "loud_metrics:Loudness=2").exit_code == 0
    # Reading needs the name alone.
    monkeypatch.delitem(sys.modules, "loud_metrics")
    assert ups_data.open_store(tmp_path / "s").manifest.importance.metrics == {"loud_metrics:Loudness": 2.0}
    assert "loud_metrics:Loudness x 2" in run("inspect", tmp_path / "s").stdout
    assert "loud_metrics" not in sys.modules


def test_the_other_numbers_of_a_recipe_are_typed_beside_the_metrics(waves: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("importance: {exponent: 1.5, clip: {times_mean: 20}}\n")
    typed = ["--importance", "clip.quantile=0.99,floor=0.1"]
    assert run("convert", waves, tmp_path / "s", "--config", config, *typed).exit_code == 0
    recipe = ups_data.open_store(tmp_path / "s").manifest.importance
    assert recipe.metrics == {"gradient": 1.0, "temporal_change": 1.0}
    assert (recipe.exponent, recipe.floor) == (1.5, 0.1)
    assert recipe.clip == ClipSpec(quantile=0.99)
    assert "exponent 1.5, floor 0.1, cut at quantile 0.99" in run("inspect", tmp_path / "s").stdout


def test_options_of_a_format_are_read_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.h5"
    with h5py.File(path, "w") as file:
        file["tensor"], file["x-coordinate"] = wave_frames((16,), num_frames=4).transpose(1, 0, 2), np.arange(16.0)
        file["t-coordinate"] = np.arange(5.0)
    assert run("convert", path, tmp_path / "s", "--option", "periodic=true").exit_code == 0
    assert ups_data.open_store(tmp_path / "s").manifest.geometry.axes[0].periodic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "arays"], "there is no format 'arays'. Did you mean 'arrays'?"),
        (["--importance", "gradent=1"], "no importance metric 'gradent'. Did you mean 'gradient'?"),
        (["--importance", "nowhere:Metric=1"], "metric 'nowhere:Metric': module 'nowhere' cannot be imported"),
        (["--importance", "clip=9"], "in importance.clip, has the unknown key ''. Valid names: quantile, times_mean"),
        (["--importance", "clip.times_mean=0.1"], "clip.times_mean: Input should be greater than or equal to 1"),
        (["--importance", "clip.quantile=0.9,clip.times_mean=9"], "clip takes quantile or times_mean, one of them"),
        (["--importance", "json:dumps=1"], "metric 'json:dumps' is of type function and no metric"),
        (["--importance", "gradient=a"], "--importance must be NAME=NUMBER,NAME=NUMBER,..., got 'gradient=a'"),
        (["--importance", "distance:wall"], "'distance:wall' names nothing that distances can be taken to"),
        (["--importance", "gradient=1,gradient=2"], "--importance must name every entry once"),
        (["--importance", "gradient=-1"], "importance.metrics.gradient: Input should be greater than 0"),
        (["--split", "train=0.5,test=0.4"], "shares of the splits must add up to 1"),
        (["--split", "train=nan"], "--split must be NAME=NUMBER,NAME=NUMBER,..., got 'train=nan'"),
        (["--option", "axes"], "--option must be KEY=VALUE, got 'axes'"),
        (["--option", "axes=xy"], "format 'arrays' has no option 'axes'"),
        (["--codec", "gzip"], "'gzip' is not one of 'none', 'zstd', 'blosc-lz4', 'blosc-zstd'"),
        (["--strata", "many"], "'--strata': Input should be a valid integer"),
        (["--strata", "0"], "num_strata: Input should be greater than or equal to 1, got 0"),
        (["--seed", "-1"], "seed: Input should be greater than or equal to 0, got -1"),
        (["--seed", str(2**60)], "seed: Input should be less than or equal to 9007199254740992"),
        (["--name", "a/b"], "name: 'a/b' is no valid name"),
        (["--config", "nowhere.yaml"], "the configuration file nowhere.yaml cannot be read"),
        (["--overwite"], "No such option: --overwite"),
    ],
)
def test_what_is_typed_is_checked(waves: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in refused(run("convert", waves, tmp_path / "s", *arguments), 2, tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codecs: zstd", "c.yaml has the unknown key 'codecs'. Did you mean 'codec'?"),
        ("importance: {metric: {}}", "c.yaml, in importance, has the unknown key 'metric'. Did you mean 'metrics'?"),
        ("codec: [zstd", "c.yaml is not valid YAML"),
        ("just text", "c.yaml must hold keys and values, it holds a str"),
        ("seed: 1\nseed: 2", "key 'seed' stands twice (line 2, column 1)"),
        ("dense: perhaps", "c.yaml: dense: Input should be 'auto', 'stored' or 'rebuilt', got 'perhaps'"),
    ],
)
def test_the_configuration_file_is_checked(waves: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    result = run("convert", waves, tmp_path / "s", "--config", tmp_path / "c.yaml")
    assert message in refused(result, 2, tmp_path / "s")


def test_paths_are_checked(waves: Path, tmp_path: Path) -> None:
    for sources, message in [
        ([waves.with_name("wave.yaml")], "wave.yaml is not there. Did you mean 'waves.yaml'?"),
        ([waves.parent], "is a directory, and no format's data set; name the files in it"),
        ([waves, waves], "every file can be given once"),
        ([waves.with_name("u.npy")], "does not say what their dimensions mean"),
    ]:
        result = run("convert", *sources, tmp_path / "s")
        assert message in refused(result, result.exit_code, tmp_path / "s")
        assert result.exit_code in {1, 2}
    assert "Missing argument" in told(run("convert", waves), 2)
