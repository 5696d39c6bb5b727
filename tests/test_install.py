"""uv is told of the package sources that pip is configured with, or leaves the work to pip."""
import pytest

import install
from install import settings_of_uv

RULES = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "1"}


def test_nothing_configured():
    assert settings_of_uv("") == RULES


def test_sources_are_told_and_the_environment_overrides():
    listed = """:env:.find-links='/env/wheels /more'
:env:.progress-bar='off'
global.extra-index-url='file:///a file:///b'
global.find-links='/global/wheels'
install.constraint='/etc/constraints.txt'
freeze.all='true'"""
    assert settings_of_uv(listed) == RULES | {
        "UV_FIND_LINKS": "/env/wheels,/more", "UV_INDEX": "file:///a file:///b",
        "UV_CONSTRAINT": "/etc/constraints.txt"}


def test_a_setting_without_a_name_is_left_to_pip():
    assert settings_of_uv("global.no-binary=':all:'") is None


@pytest.mark.parametrize("wanted, hint", [(["--index-url", "file:///none"], True), (["-e", "."], False)])
def test_a_failure_with_an_index_of_torch_says_how_to_do_without(wanted, hint, monkeypatch):
    monkeypatch.setattr(install.subprocess, "check_output", lambda *arguments, **options: "")
    monkeypatch.setattr(install, "run", lambda *command, **options: False)
    with pytest.raises(SystemExit, match="pip could not install") as end: install.install(*wanted)
    assert ("plain `make env` uses the default index" in str(end.value)) is hint
