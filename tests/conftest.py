"""Settings of the whole suite: array shapes in annotations are executed while the tests run."""

import jaxtyping

import tests.typechecker

# Must happen before the first import of either package, hence here and not in a fixture.
jaxtyping.jaxtyped = tests.typechecker.jaxtyped
jaxtyping.install_import_hook(["ups_data", "preprocess"], "tests.typechecker.check")
