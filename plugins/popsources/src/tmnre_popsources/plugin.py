"""What this distribution brings to tmnre; imports neither torch nor the simulator, so that listing plugins is quick."""

from tmnre import Plugin, RecipeEntry

plugin = Plugin(
    name="popsources",
    api=1,
    summary="populations of point sources in photon-count maps",
    recipes={
        "demo": RecipeEntry(
            target="tmnre_popsources.recipes.demo:recipe",
            summary="patch of log-normal point sources: their number, flux width and scale height, truth known",
        ),
        "detection-is-truncation": RecipeEntry(
            target="tmnre_popsources.recipes.detection_is_truncation:recipe",
            summary="population from detected and sub-threshold sources together, on the observation of 2211.04291",
        ),
        "fermi-highlat": RecipeEntry(
            target="tmnre_popsources.recipes.fermi_highlat:recipe",
            summary="source counts dN/dS of the gamma-ray sky at high latitudes, from a Fermi-LAT counts map",
        ),
        "gce": RecipeEntry(
            target="tmnre_popsources.recipes.gce:recipe",
            summary="Galactic-centre excess: smooth as annihilation would be, or of point sources; share and dN/dS",
        ),
    },
)
