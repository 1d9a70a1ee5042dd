"""From the text of an experiment file to an experiment, or to all that is wrong with it."""
