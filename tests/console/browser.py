"""Drives a headless Chromium for tests/tests/console.rs.

Reads one JSON list a line from its standard input, [what, argument, …], does it, and answers with a line:
`ok`, `ok TEXT`, or `error TEXT`.
"""

import json
import sys
import time

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

PATIENCE = 60


class Browser:
    def __init__(self, chromium, driver):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_window_size(1280, 900)

    def open(self, url):
        self.driver.get(url)

    def reload_count(self):
        """Another number once the page was loaded anew."""
        return self.driver.execute_script("return performance.timeOrigin")

    def text(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def title(self):
        return self.driver.title

    def wait_text(self, selector, text):
        end = time.monotonic() + PATIENCE
        found = None
        while time.monotonic() < end:
            try:
                elements = self.driver.find_elements(By.CSS_SELECTOR, selector)
                found = " ".join(element.text for element in elements)
            except WebDriverException as error:  # the page changes, or is being loaded anew
                found = str(error)
            if text in found:
                return
            time.sleep(0.1)
        raise AssertionError(f"{selector} has no {text!r} but {found!r}")

    def click(self, selector):
        # Once more where the page changed in between: then nothing was clicked.
        for _ in range(20):
            try:
                element = self.driver.find_element(By.CSS_SELECTOR, selector)
                script = "arguments[0].scrollIntoView({block: 'center'})"
                self.driver.execute_script(script, element)
                return element.click()
            except (StaleElementReferenceException, NoSuchElementException) as error:
                last = error
                time.sleep(0.2)
        raise last

    def type(self, selector, text):
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def press(self, *names):
        """Presses keys, wherever the focus is: names of Keys, or letters."""
        for name in names:
            focus = self.driver.switch_to.active_element
            focus.send_keys(getattr(Keys, name, name))

    def focused(self):
        return self.driver.switch_to.active_element.text

    def size(self, width, height):
        # A window is never narrower than 500 pixels; what a page is shown in may be.
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def scheme(self, name):
        feature = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})

    def shot(self, file):
        """The whole page, however long."""
        self.driver.execute_script("window.scrollTo(0, 0)")
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        import base64

        with open(file, "wb") as out:
            out.write(base64.b64decode(shot["data"]))

    def overflow(self):
        """By how many pixels the page is wider than what it is shown in."""
        script = "return document.documentElement.scrollWidth - window.innerWidth"
        return self.driver.execute_script(script)

    def contrast(self):
        """Texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.1, AA)."""
        return self.driver.execute_script(CONTRAST)

    def nameless(self):
        """Buttons, links and fields that have no name for those who do not see them."""
        script = """return [...document.querySelectorAll('button, a, input')].filter(it => !(it.textContent.trim()
            || it.getAttribute('aria-label') || (it.labels && it.labels.length))).map(it => it.outerHTML)"""
        return self.driver.execute_script(script)

    def complaints(self):
        """What the browser has against the page: errors of scripts, and what its policy forbids. That
        nobody answers, or that an order is refused, is none."""
        expected = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "status of 401", "status of 403")
        log = [entry["message"] for entry in self.driver.get_log("browser")]
        return [text for text in log if not any(known in text for known in expected)]

    def scripts_off(self):
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})

    def scripts_on(self):
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


CONTRAST = """
const channel = (it) => { it /= 255; return it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4; };
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = numbers(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const found = [];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some((it) => it.nodeType === 3 && it.data.trim());
  if (!own || !node.offsetParent || node.closest('.hidden, .skip')) continue;
  const [one, other] = [numbers(getComputedStyle(node).color), behind(node)].map(light).sort();
  const [low, high] = one < other ? [one, other] : [other, one];
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${node.textContent.trim().slice(0, 40)}`);
}
return found;
"""


def main():
    browser = Browser(*sys.argv[1:3])
    try:
        print("ok", flush=True)
        for line in sys.stdin:
            what, *arguments = json.loads(line)
            try:
                answer = getattr(browser, what)(*arguments)
                print("ok" if answer is None else f"ok {json.dumps(answer)}", flush=True)
            except Exception as error:  # the test says where it was
                print("error", str(error).replace("\n", " ")[:2000], flush=True)
    finally:
        browser.driver.quit()


main()
