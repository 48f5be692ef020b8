from goodnet import catalog
from goodnet.reports.method_pages import methods_page


def test_the_page_in_docs_is_the_one_that_the_code_makes(repository):
    page = (repository / "docs" / "methods.md").read_text(encoding="utf-8")
    assert page == methods_page(), "make it again: python -m goodnet.reports.method_pages > docs/methods.md"


def test_every_method_and_every_option_is_on_the_page():
    page = methods_page()
    for family in catalog.FAMILIES:
        chapter = page.split(f"\n## {family.capitalize()}\n")[1].split("\n## ")[0]
        for name in catalog.names(family):
            section = chapter.split(f"### {name}\n")[1].split("\n### ")[0]
            assert "**Source**" in section
            assert all(f"| `{field}` |" in section for field in catalog.find(family, name).model_fields)
