"""Settings of the console: config/console.toml of the home, read once. config-sample.toml shows every key.

An unknown key is an error, so that a mistyped one is not passed over.
"""

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from console.core.errors import ConsoleError
from console.core.paths import Home
from controlplane.wire.base import Request


class ConfigError(ConsoleError):
    code = "config"


class StageSettings(Request):
    """How the embedded stage is brought up. Paths are relative to the folder of the file."""

    port: int = Field(default=-1, ge=-1, le=65_535)
    listen: str = Field(default="127.0.0.1", min_length=1)
    announce: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""


class Config(Request):
    stage: StageSettings = StageSettings()


def config_file(home: Home) -> Path:
    return home.config / "console.toml"


def manager_config_file(home: Home) -> Path:
    """The stream manager's own settings, handed to it where the file is there."""
    return home.config / "manager.toml"


def load_config(home: Home) -> Config:
    """The defaults where there is no file. ConfigError names the file, the key and what is wrong."""
    path = config_file(home)
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):  # a home that cannot be is for `prepare` to say
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(
            f"cannot read {path}: {reason.lower()}",
            "Make it readable, or set SHOWCALLER_HOME to a folder of your own",
        ) from error
    try:
        return Config.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(f"stage.{name}" for name in StageSettings.model_fields)
            raise ConfigError(f"{path}: there is no setting {key}", f"Known: {known}") from error
        raise ConfigError(f"{path}: {key}: {first['msg'].lower()}", "Correct it, or remove it") from error
    except (ValueError, RecursionError) as error:  # tomllib has its own, but not for every number and depth
        raise ConfigError(f"{path} is no TOML: {error}", "Correct it, or remove it") from error
