from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from leaf_fer import registry
from leaf_fer.config import (
    SETTINGS,
    Config,
    Settings,
    beginning,
    budget,
    configure,
    options_of,
    read_yaml,
    write_yaml,
)
from leaf_fer.errors import UserError

every_method = pytest.mark.parametrize("key", sorted(registry.methods()))


class TestSettings:
    def test_every_setting_is_an_option_with_help(self):
        assert [o.name for o in SETTINGS] == [f.name for f in fields(Settings)]
        assert all(len(o.help) > 10 for o in SETTINGS)

    @pytest.mark.parametrize("option", SETTINGS, ids=lambda option: option.name)
    def test_every_default_is_allowed(self, option):
        assert option.parse(option.default) == option.default

    @every_method
    def test_no_method_has_an_option_that_is_already_a_setting(self, key):
        names = [option.name for option in options_of(key)]
        assert len(names) == len(set(names))

    def test_the_defaults_are_those_of_the_paper(self):
        s = configure({"method": "leaf"}).settings
        assert (s.optimizer, s.lr, s.batch_size, s.epochs) == ("adam", 5e-4, 64, 20)
        assert (s.backbone, s.num_experts, s.expert, s.ema) == ("resnet18", 4, "residual", 0.999)


class TestConfigure:
    def test_without_a_word_it_is_leaf_with_both_levels(self):
        config = configure()
        assert config.settings.method == "leaf"
        assert config.settings.eaf == "semantic,instance"
        assert config.options["mask"] == "adaptive"

    def test_a_recipe_gives_way_to_what_the_user_says(self):
        release = configure({"method": "leaf_release"}).settings
        assert (release.num_experts, release.top_k, release.gate) == (8, 1, "noisy")
        chosen = configure({"method": "leaf_release", "num_experts": "2", "eaf": "none"}).settings
        assert (chosen.num_experts, chosen.top_k, chosen.eaf) == (2, 1, "none")

    def test_later_sources_win_and_may_change_the_method(self):
        config = configure({"method": "leaf", "lr": 0.1}, {"method": "supervised"})
        assert (config.settings.method, config.settings.lr) == ("supervised", 0.1)
        assert config.options == {}

    def test_options_of_the_method_are_kept_apart(self):
        config = configure({"method": "leaf", "mass": "0.8", "batch_size": "16"})
        assert config.options["mass"] == 0.8
        assert config.settings.batch_size == 16

    def test_an_option_of_another_method_is_refused(self):
        with pytest.raises(UserError, match="--mass: unknown option"):
            configure({"method": "supervised", "mass": 0.8})

    @pytest.mark.parametrize("key", ["leav", None])
    def test_an_unknown_method_is_refused(self, key):
        with pytest.raises(UserError, match=f"--method {key}: unknown method"):
            configure({"method": key})

    @pytest.mark.parametrize("eaf", ["cosmic", "semantic,cosmic", "semantic,", "none,semantic", ""])
    def test_an_unknown_level_is_refused(self, eaf):
        with pytest.raises(UserError, match="expected semantic, instance, both, or none"):
            configure({"eaf": eaf})

    def test_more_experts_kept_than_there_are_is_refused(self):
        with pytest.raises(UserError, match="--top-k 5: expected at most --num-experts 4"):
            configure({"top_k": 5})


class TestBudget:
    def test_it_is_a_number_a_file_or_all_labels(self, tmp_path):
        (tmp_path / "labels.csv").write_text("")
        assert budget("100") == 100
        assert budget(str(tmp_path / "labels.csv")) == tmp_path / "labels.csv"
        assert budget(None) is None

    @pytest.mark.parametrize("text", ["0", "-3", "--3", "1.5", "nowhere.csv", "."])
    def test_anything_else_is_refused_before_data_is_read(self, text):
        with pytest.raises(UserError, match=f"--labels {text}: expected a whole number >= 1, or"):
            budget(text)


class TestBeginning:
    def test_none_a_name_and_a_path_are_told_apart(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert configure().settings.init is None
        assert beginning(configure({"init": "none"}).settings.init) is None
        assert beginning("resnet18.a1_in1k") == "resnet18.a1_in1k"
        (tmp_path / "resnet18").mkdir()
        assert beginning("resnet18") == Path("resnet18")
        assert beginning("timm:resnet18") == "resnet18"

    @pytest.mark.parametrize("text", ["no/where", "x.pth", "x.safetensors", "/no", "./resnet18"])
    def test_a_path_to_nothing_is_refused(self, text, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=f"--init {text}: no such file or folder"):
            beginning(text)


class TestYAML:
    @every_method
    def test_a_configuration_survives_its_file(self, key, tmp_path):
        config = configure({"method": key, "data": "rafdb:/faces/Überall", "labels": 100})
        (tmp_path / "config.yaml").write_text(write_yaml(config), encoding="utf-8")
        assert configure(read_yaml(str(tmp_path / "config.yaml"))) == config

    def test_choices_that_differ_from_the_recipe_survive_too(self, tmp_path):
        config = configure({"method": "leaf", "eaf": "none", "mask": "none", "steps": None})
        (tmp_path / "config.yaml").write_text(write_yaml(config), encoding="utf-8")
        assert configure(read_yaml(str(tmp_path / "config.yaml"))) == config

    def test_all_values_are_on_one_level(self):
        values = Config(Settings(), {"mass": 0.9}).to_dict()
        assert values["lr"] == 5e-4
        assert values["mass"] == 0.9

    def test_names_may_have_dashes(self, tmp_path):
        (tmp_path / "c.yaml").write_text("batch-size: 8\nlr: 1e-3\n")
        settings = configure(read_yaml(str(tmp_path / "c.yaml"))).settings
        assert (settings.batch_size, settings.lr) == (8, 1e-3)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "expected a mapping"),
            (b"- 1\n- 2\n", "expected a mapping"),
            (b"just text", "expected a mapping"),
            (b"a: [1", "not YAML"),
            (b"a: 2020-99-99", "not YAML"),
            (b"\xff\xfe\x00", "cannot be read|not YAML"),
            (b"a: !!python/object/apply:os.getcwd []", "not YAML"),
        ],
    )
    def test_a_file_that_is_no_mapping_is_refused_in_one_line(self, content, message, tmp_path):
        (tmp_path / "c.yaml").write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            read_yaml(str(tmp_path / "c.yaml"))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["nowhere.yaml", "."])
    def test_a_file_that_cannot_be_read_is_refused(self, name, tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            read_yaml(str(tmp_path / name))
