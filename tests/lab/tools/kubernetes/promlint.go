package main

import (
	"fmt"
	"io"
	"os"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// lint reads metrics in Prometheus' text format and prints the problems in them, as `promtool check metrics` does: it
// is the same linter, without the rest of Prometheus. It returns the exit code: 1 if there are problems, 3 if the text
// cannot be parsed.
func lint(metrics io.Reader) int {
	problems, err := promlint.New(metrics).Lint()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the metrics cannot be parsed:", err)
		return 3
	}
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, problem.Metric, problem.Text)
	}
	if len(problems) > 0 {
		return 1
	}
	return 0
}
