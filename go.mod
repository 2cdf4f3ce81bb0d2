module vmst.io/refit

go 1.26
