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
        ),
        "expgrf": RecipeEntry(
            target="tmnre_fields.recipes.expgrf:recipe",
            summary="every pixel of an exponentiated Gaussian field in noise, in rounds for this observation",
        ),
        "lss": RecipeEntry(
            target="tmnre_fields.recipes.lss:recipe",
            summary="the log-normal density of galaxies from their counts in cells, behind a selection and a mask",
        ),
        "separation": RecipeEntry(
            target="tmnre_fields.recipes.separation:recipe",
            summary="two random fields that overlap in two channels: both, jointly, with a mask",
        ),
        "wmap": RecipeEntry(
            target="tmnre_fields.recipes.wmap:recipe",
            summary="the CMB on the whole sky from WMAP's seven-year V and W bands outside the mask",
        ),
    },
)
