Every mistake in a configuration is one line that names the file, the line, the key, what was found and what was expected.
