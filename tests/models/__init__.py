"""Published models that are not built from stations, written as custom models: plain `rates`, no JAX tricks.

Every file has `model(...)`, the law with its parameters, and `problem(...)`, a study of it. Numbers are
arguments; their defaults are the published ones. `scale` is cells per unit of the publication, since a
tumor is counted in whole cells.
"""
