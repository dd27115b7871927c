"""Contract suites that users can run on their own stores.

`StoreContract` asks whether a store answers as the contract says; `ups-preprocess validate` asks whether its bytes are
those that were written, and `ups-preprocess prove` whether draws from it are unbiased and what they are worth.
"""

from ups_data.testing.store_contract import StoreContract, StoreTruth, check_processes, read_digest

__all__ = ["StoreContract", "StoreTruth", "check_processes", "read_digest"]
