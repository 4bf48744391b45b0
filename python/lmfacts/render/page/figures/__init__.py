"""The figures of a page, one subject a file: functions from `RunsView` to figures, empty where nothing was recorded."""
