"""What the track of a final has to have that nobody has seen: the last lines of a plan.

Whoever has a track's images and recipe can train models at home and keep their outputs in a file. Such a table serves
any forget set that is drawn from these images, for originals that are known or not.
"""

from collections.abc import Iterator

from harness.tracks.track import Track

__all__ = ["steps_to_a_final"]

COMMANDS = (
    "harness prepare final-track.toml",
    "harness leaderboard verify --track final-track.toml --publish opening.json",
    "harness leaderboard run submissions --track final-track.toml --final --require-isolation full",
)


def steps_to_a_final(track: Track) -> Iterator[str]:
    """Yield how to declare and run a final after a development track, line by line."""
    yield "the final: a track of its own, of which nobody has seen images, original models, forget set or secret"
    yield f"  copy the declaration of {track.name} to final-track.toml, and change these keys:"
    yield "    name                        another one"
    yield "    data.source                 images that you set apart and did not publish"
    yield "    split.seed                  another one, which also draws the forget set"
    if track.declaration.forget.forget_sets > 1:
        yield "    forget.forget_sets, .index  leave them out: such tracks share images and original models"
    if track.declaration.reference.published_secret is not None:
        yield "    reference.published_secret  leave it out: all models and seeds are then drawn from a random one"
    yield from (f"  {command}" for command in COMMANDS)
    yield "  and publish opening.json at the opening"
