"""What every method must keep, whoever wrote it: the catalogue says which there are."""

import pytest
from pydantic import BaseModel, ValidationError

from goodnet import catalog
from goodnet.core.errors import InvalidOption
from goodnet.core.method import Attack, Guard, Method, Repairer, Scanner

CONTRACTS: dict[str, type[Method]] = {
    "scanners": Scanner,
    "repairers": Repairer,
    "guards": Guard,
    "attacks": Attack,
}
METHODS = [
    pytest.param(family, name, id=f"{family}-{name}") for family in catalog.FAMILIES for name in catalog.names(family)
]


def needed_options(method: type[Method]) -> dict[str, object]:
    """Return something for each option that has no default; these are paths so far."""
    return {name: "net.h5" for name, field in method.model_fields.items() if field.is_required()}


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_a_method_keeps_its_family_s_contract(family: catalog.Family, name: str) -> None:
    method = catalog.find(family, name)
    assert issubclass(method, CONTRACTS[family])
    assert method.family == family
    assert method.name() == name
    assert not getattr(method, "__abstractmethods__", None)


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_options_work_as_they_come_and_cannot_be_changed(family: catalog.Family, name: str) -> None:
    method = catalog.find(family, name)
    options = method.from_options(**needed_options(method))
    assert isinstance(options, BaseModel)
    assert options == method.from_options(**needed_options(method))
    for field in method.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(options, field, getattr(options, field))


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_misspelt_options_are_refused(family: catalog.Family, name: str) -> None:
    method = catalog.find(family, name)
    with pytest.raises(InvalidOption, match=f"{name}: option 'no_such_option'") as caught:
        method.from_options(**needed_options(method), no_such_option=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_every_option_is_explained(family: catalog.Family, name: str) -> None:
    for option, field in catalog.find(family, name).model_fields.items():
        assert field.description, f"option '{option}' has no description"
