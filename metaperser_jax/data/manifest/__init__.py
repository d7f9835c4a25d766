"""Your own listeners: a folder with a table of ratings, and recordings or features."""

from metaperser_jax.data.manifest.builder import load_manifest
from metaperser_jax.data.manifest.spec import ManifestSpec, check_spec
from metaperser_jax.data.manifest.tables import Table, read_table

__all__ = ["ManifestSpec", "Table", "check_spec", "load_manifest", "read_table"]
