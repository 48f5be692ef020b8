import pytest

from goodnet.formats.data import read_data


@pytest.fixture(scope="session")
def truth(badnet):
    return read_data(badnet.test).targets


@pytest.fixture(scope="session")
def files_of_pair(badnet, repaired_badnet):
    return badnet.model, repaired_badnet / "repaired_5_percent.h5"
