"""Run stores: everything a run knows, as rows written before they are acted upon."""
