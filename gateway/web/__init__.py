"""The authorization plane: thin aiohttp handlers and the pages that people see (`app`), and the access plane's own page
(`refusal`), for which no aiohttp is loaded."""
