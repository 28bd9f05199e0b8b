"""What this distribution brings to tmnre; imports nothing heavy."""

from tmnre import Plugin, RecipeEntry

plugin = Plugin(
    name="supernova",
    api=1,
    summary="cosmology from the brightness of type Ia supernovae",
    recipes={
        "hubble": RecipeEntry(
            target="tmnre_supernova.recipes.hubble:recipe",
            summary="matter density and dark energy's equation of state from a Hubble diagram",
        )
    },
)
