"""The light object that `tmnre` discovers; bilby, lal and torch load only when a recipe is used."""

from tmnre.plugin import Plugin, RecipeEntry

plugin = Plugin(
    name="gw",
    api=1,
    summary="binary black holes in gravitational-wave strain",
    recipes={
        "demo": RecipeEntry(
            target="tmnre_gw.recipes.demo:recipe",
            summary="simulated binary in two detectors, six free parameters, truth known",
        ),
        "bbh": RecipeEntry(
            target="tmnre_gw.recipes.bbh:recipe",
            summary="any binary black hole, all parameters: a simulated signal, an event by name, or strain files",
        ),
        "overlapping": RecipeEntry(
            target="tmnre_gw.recipes.overlapping:recipe",
            summary="two overlapping binaries and, for comparison, the fit of one; truth known",
        ),
        "gw150914": RecipeEntry(
            target="tmnre_gw.recipes.gw150914:recipe",
            summary="the first event, all fifteen parameters, from its public strain",
        ),
    },
)
