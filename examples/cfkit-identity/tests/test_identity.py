import pytest

import cfkit
from cfkit.testing import check_editor


@pytest.mark.parametrize("blur", [1, 5])
def test_it_keeps_the_contract(blur):
    bundle = cfkit.load_bundle("demo", device="cpu")
    check_editor(cfkit.load_editor("identity", bundle=bundle, blur=blur), bundle)
