"""The watch used by the other tests notices forbidden scripts and requests, and the pages block them."""

from tests.support.live import eventually

_INTRUDE = """(elsewhere) => {
  const script = document.createElement("script");
  script.textContent = "window.intruded = true";
  document.body.append(script);
  const image = new Image();
  image.src = elsewhere;
  document.body.append(image);
  setTimeout(() => { throw new Error("an uncaught error"); });
}"""


def test_scripts_within_a_page_and_requests_elsewhere_are_forbidden_and_noticed(page, site, watch):
    page.goto(site.url)
    page.evaluate(_INTRUDE, "http://127.0.0.1:9/image.png")
    said = ("script-src 'self'", "img-src 'self'", "an uncaught error")

    def is_noticed():
        page.wait_for_timeout(20)  # lets the browser report
        return all(any(each in heard for heard in watch.complaints) for each in said)

    assert eventually(is_noticed), watch.complaints
    assert page.evaluate("window.intruded") is None
    watch.allow("")
