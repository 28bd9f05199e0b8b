"""What this distribution brings to tmnre; imports nothing heavy, so that listing plugins is quick."""

from tmnre import Plugin, RecipeEntry

plugin = Plugin(
    name="example",
    api=1,
    summary="radioactive decay in a counting experiment",
    recipes={
        "decay": RecipeEntry(
            target="tmnre_example.recipes.decay:recipe",
            summary="activity, half-life and background from counts in equal intervals",
        )
    },
)
