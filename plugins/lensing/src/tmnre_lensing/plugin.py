"""What this distribution brings to tmnre; imports neither torch nor the simulator, so that listing plugins is quick."""

from tmnre import Plugin, RecipeEntry

plugin = Plugin(
    name="lensing",
    api=1,
    summary="strong gravitational lens images",
    recipes={
        "demo": RecipeEntry(
            target="tmnre_lensing.recipes.demo:recipe",
            summary="mock lens: power-law mass, shear, Sersic source; eight free parameters, truth known",
        ),
        "mock": RecipeEntry(
            target="tmnre_lensing.recipes.mock:recipe",
            summary="mock lens and source, fourteen parameters truncated together by the contour of their joint ratio",
        ),
        "subhalo": RecipeEntry(
            target="tmnre_lensing.recipes.subhalo:recipe",
            summary="mock lens with a subhalo: position map, mass and Bayes factor from one forward pass",
        ),
        "b1938": RecipeEntry(
            target="tmnre_lensing.recipes.b1938:recipe",
            summary="mock like JVAS B1938+666 seen by Keck: ring of 0.45 arcsec, subhalo of 1.9e8 Msun",
        ),
        "warm": RecipeEntry(
            target="tmnre_lensing.recipes.warm:recipe",
            summary="warm dark matter: half-mode mass and subhalo fraction from several mock lenses together",
        ),
        "slacs": RecipeEntry(
            target="tmnre_lensing.recipes.slacs:recipe",
            summary="real lens from FITS files, by default SLACS J2303+1422; fifteen free parameters, test of the fit",
        ),
    },
)
