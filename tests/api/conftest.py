import pytest

from goodnet import api
from goodnet.formats.data import read_data
from goodnet.pair.goodnet import GoodNet


@pytest.fixture(scope="session")
def truth(badnet):
    return read_data(badnet.test).targets


@pytest.fixture(scope="session")
def files_of_pair(badnet, repaired_badnet):
    return badnet.model, repaired_badnet / "repaired_5_percent.h5"


@pytest.fixture(scope="session")
def onnx_files_of_pair(files_of_pair, tmp_path_factory):
    """The pair's GoodNet in ONNX by its targets: None, and class 0, the attack's."""
    folder = tmp_path_factory.mktemp("onnx")
    return {
        targets: api.export(
            GoodNet(*files_of_pair, input_range="0..1", targets=targets), out=folder / f"targets {targets}.onnx"
        )
        for targets in (None, (0,))
    }
