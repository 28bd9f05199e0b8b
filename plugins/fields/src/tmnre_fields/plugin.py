"""What this distribution brings to tmnre; imports neither torch nor the simulator, so that listing plugins is quick."""

from tmnre import Plugin, RecipeEntry

plugin = Plugin(
    name="fields",
    api=1,
    summary="random fields and their power spectra",
    recipes={
        "demo": RecipeEntry(
            target="tmnre_fields.recipes.demo:recipe",
            summary="exponentiated Gaussian random field in noise: amplitude and slope of its power spectrum",
        )
    },
)
