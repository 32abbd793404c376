// Program prometheus evaluates PromQL over metrics in Prometheus' text format, with Prometheus' own parser and engine.
// Standard input is {"scrapes": ["the text of one scrape", …], "queries": ["…", …]}. Standard output is a list with an
// entry for each query: {"series": how many series it gives} or {"error": "why it gives none"}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

type answer struct {
	Series int    `json:"series"`
	Error  string `json:"error,omitempty"`
}

func main() {
	log.SetFlags(0)
	var asked struct {
		Scrapes []string `json:"scrapes"`
		Queries []string `json:"queries"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		log.Fatalln("standard input:", err)
	}
	memory := memory{}
	for i, text := range asked.Scrapes {
		if err := memory.scrape([]byte(text), timeOf(i)); err != nil {
			log.Fatalf("scrape %d: %v", i+1, err)
		}
	}
	syntax := parser.NewParser(parser.Options{})
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples:           1_000_000,
		Timeout:              10 * time.Second,
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		Parser:               syntax,
	})
	now := timeOf(len(asked.Scrapes) - 1)
	answers := make([]answer, 0, len(asked.Queries))
	for _, query := range asked.Queries {
		series, err := evaluate(engine, syntax, memory, query, now)
		if err != nil {
			answers = append(answers, answer{Error: err.Error()})
			continue
		}
		answers = append(answers, answer{Series: series})
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		log.Fatalln("standard output:", err)
	}
}

// timeOf is the time of a scrape. Scrapes are 15 s apart, as is usual.
func timeOf(scrape int) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(scrape) * 15 * time.Second)
}

// evaluate returns how many series the query gives. Each selector in the query has to find something by itself:
// otherwise `a or b` would hide that there is no `a`.
func evaluate(engine *promql.Engine, syntax parser.Parser, memory memory, query string, now time.Time) (int, error) {
	expression, err := syntax.ParseExpr(query)
	if err != nil {
		return 0, err
	}
	for _, matchers := range parser.ExtractSelectors(expression) {
		if len(memory.matching(matchers)) == 0 {
			return 0, fmt.Errorf("nothing is selected by %v", matchers)
		}
	}
	prepared, err := engine.NewInstantQuery(context.Background(), memory, nil, query, now)
	if err != nil {
		return 0, err
	}
	defer prepared.Close()
	result := prepared.Exec(context.Background())
	if result.Err != nil {
		return 0, result.Err
	}
	// A warning or a hint is a failure, too. There is one for the rate of a metric that is no counter, for example.
	if warnings, hints := result.Warnings.AsStrings(query, 10, 10); len(warnings)+len(hints) > 0 {
		return 0, fmt.Errorf("warnings: %v %v", warnings, hints)
	}
	vector, err := result.Vector()
	if err != nil {
		return 0, fmt.Errorf("it gives no vector: %w", err)
	}
	return len(vector), nil
}

func matches(series labels.Labels, matchers []*labels.Matcher) bool {
	for _, matcher := range matchers {
		if !matcher.Matches(series.Get(matcher.Name)) {
			return false
		}
	}
	return true
}
