"""Settings of the whole suite: array shapes in annotations are executed while the tests run."""

from jaxtyping import install_import_hook

import tests.typechecker  # noqa: F401  the hook names it below but does not import it

# Must happen before the first import of either package, hence here and not in a fixture.
install_import_hook(["ups_data", "preprocess"], "tests.typechecker.check")
