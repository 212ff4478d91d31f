"""All methods on all data sets under one budget: jobs, tables, plots."""
