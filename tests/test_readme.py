"""What the documents promise is there."""

import re
from pathlib import Path

from gateway import hookspecs
from gateway.cli import main
from gateway.config import load, settings_of
from gateway.registry import discover
from gateway.settings import KINDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ENVIRONMENT = {
    name: f"{name.lower()}-0123456789"
    for name in ("ALICE_KEY", "CHAT_KEY", "OPENAI_API_KEY", "CF_ACCOUNT_ID", "CF_API_TOKEN", "SILICONFLOW_KEYS")
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_built_in_type_is_in_the_readme():
    """A newcomer finds each plugin of the box."""
    registry = discover()

    missing = [name for kind in KINDS for name in registry.types[kind] if f"`{name}`" not in README]
    assert missing == []


def test_every_hook_is_in_the_readme():
    """A plugin's author finds each hook with its signature."""
    hooks = [name for name in vars(hookspecs) if name.startswith("provide_")]

    assert hooks
    assert [name for name in hooks if f"`{name}()`" not in README] == []
    assert "`setup_app(app)`" in README


def test_yaml_examples_are_good():
    """What the README shows as a configuration starts."""
    (example,) = blocks("yaml")

    configuration = settings_of(load(ROOT / "readme.yaml", example, ENVIRONMENT), discover())
    assert list(configuration.settings.models) == ["flux-schnell"]


def test_python_examples_compile():
    """No example has a typing mistake."""
    examples = blocks("python")

    assert len(examples) >= 1
    for example in examples:
        compile(example, "README.md", "exec")


def test_commands_that_the_readme_names_exist():
    """Each `image-gateway …` of the README is a command."""
    named = set(re.findall(r"image-gateway ([a-z]+)", README))

    assert named
    assert named <= set(main.commands)


def test_links_inside_the_repository_lead_somewhere():
    """No dead file links."""
    targets = [target for target in re.findall(r"\]\(([^)#:]+)\)", README) if not target.startswith("http")]

    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_test_command_is_what_ci_runs():
    """The command a newcomer types is the one that guards every change."""
    command = next(line for block in blocks("sh") for line in block.splitlines() if "pytest" in line)

    assert command in (ROOT / ".ci" / "run").read_text()
