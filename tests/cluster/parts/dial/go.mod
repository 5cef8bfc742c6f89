module cubicle.dev/tests/cluster/dial

go 1.26.0
