"""The command line: commands parse, call and print. The only room that knows both `harness` and `data_prep`."""
