package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// memory holds the scraped samples. It is all that the engine needs of a database.
type memory map[string]*series

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// scrape adds the samples of one text, with the two labels that Prometheus gives to every target.
func (m memory) scrape(text []byte, at time.Time) error {
	reader := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
	for {
		entry, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		var own labels.Labels
		reader.Labels(&own)
		all := labels.NewBuilder(own).Set("job", "operator").Set("instance", "10.0.0.1:8080").Labels()
		known, ok := m[all.String()]
		if !ok {
			known = &series{labels: all}
			m[all.String()] = known
		}
		_, _, value := reader.Series()
		known.samples = append(known.samples, sample{at.UnixMilli(), value})
	}
}

func (m memory) matching(matchers []*labels.Matcher) []*series {
	var found []*series
	for _, one := range m {
		if matches(one.labels, matchers) {
			found = append(found, one)
		}
	}
	slices.SortFunc(found, func(a, b *series) int { return labels.Compare(a.labels, b.labels) })
	return found
}

// Querier implements storage.Queryable. It returns samples of all times: the engine ignores those outside of its range.
func (m memory) Querier(_, _ int64) (storage.Querier, error) {
	return querier{memory: m}, nil
}

// querier does not implement names and values of labels, since no query asks for them.
type querier struct {
	storage.LabelQuerier
	memory memory
}

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	return &seriesSet{left: q.memory.matching(matchers)}
}

func (querier) Close() error { return nil }

// seriesSet goes from one series to the next.
type seriesSet struct {
	current *series
	left    []*series
}

func (s *seriesSet) Next() bool {
	if len(s.left) == 0 {
		return false
	}
	s.current, s.left = s.left[0], s.left[1:]
	return true
}

func (s *seriesSet) At() storage.Series {
	return storage.NewListSeries(s.current.labels, s.current.samples)
}

func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

// sample is a number at a time, in milliseconds; there are no native histograms here.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                    { return s.at }
func (sample) ST() int64                     { return 0 }
func (s sample) F() float64                  { return s.value }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }
