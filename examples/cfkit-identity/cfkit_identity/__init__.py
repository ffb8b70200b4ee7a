"""The null baseline: films as they are."""

from dataclasses import dataclass

from cfkit import EditorSpec, hookimpl, option


@dataclass(frozen=True)
class IdentityOptions:
    blur: int = option(1, "Side of a box blur in pixels, odd; 1 leaves films alone.", minimum=1, maximum=255)


@hookimpl
def register_editors() -> list[EditorSpec]:
    return [
        EditorSpec(
            name="identity",
            options=IdentityOptions,
            target="cfkit_identity.editor:IdentityEditor",
            summary="The null baseline: films as they are.",
        )
    ]
