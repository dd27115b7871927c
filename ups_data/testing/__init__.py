"""Contract suites that users can run on their own stores.

`StoreContract` asks whether a store answers as the contract says, `DrawContract` whether samples drawn from it are
sound, unbiased, repeatable and resumed where they stood; `ups-preprocess validate` asks whether its bytes are those
that were written, and `ups-preprocess prove` whether draws from it are unbiased and what they are worth. Modules
`fault_server` and `s3_server` are what remote stores are tried against: a web server that fails as it is told, and an
S3 service on loopback.
"""

from ups_data.testing.draw_contract import DrawContract
from ups_data.testing.store_contract import StoreContract, StoreTruth, check_processes, read_digest

__all__ = ["DrawContract", "StoreContract", "StoreTruth", "check_processes", "read_digest"]
