// One measured run: every connection sends its next request when the last one is answered.
package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"
)

type result struct {
	Server      string  `json:"server"`
	Client      string  `json:"client"`
	Operation   string  `json:"operation"`
	Connections int     `json:"connections"`
	ValueBytes  int     `json:"value_bytes"`
	Seconds     float64 `json:"seconds"`
	Operations  int     `json:"operations"`
	PerSecond   float64 `json:"per_second"`
	Service     times   `json:"service_us"`
	// From the scheduler's account of all threads, and from the coarser ticks beside it.
	ServerCPU      float64 `json:"server_cpu_us_per_op"`
	ServerCPUTicks float64 `json:"server_cpu_us_per_op_by_ticks"`
	ServerRSS      int64   `json:"server_rss_bytes"`
	ClientCPU      float64 `json:"client_cpu_us_per_op"`
	// The share of the threads it may use that the client did use; near 1 the client was the limit.
	ClientBusy float64 `json:"client_busy"`
}

type times struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

func run(o options) (result, error) {
	stores, err := connectAll(o, o.connections)
	if err != nil {
		return result{}, err
	}
	defer closeAll(stores)
	dir := "/peers/" + o.dir
	// A first request each, so that every connection stands before the clock runs.
	if err := together(stores, func(_ int, one store) error { return one.prepare("/peers") }); err != nil {
		return result{}, err
	}
	if o.op == "create" {
		if err := stores[0].prepare(dir); err != nil {
			return result{}, err
		}
	}
	names := keyNames(o)

	from := time.Now().Add(duration(o.warmup))
	to := from.Add(duration(o.seconds))
	taken := make([][]time.Duration, len(stores))
	failed := make(chan error, 1)
	go func() {
		failed <- together(stores, func(i int, one store) error {
			next, err := operation(o, one, i, names, dir)
			if err != nil {
				return err
			}
			taken[i], err = loop(next, from, to)
			return err
		})
	}()
	time.Sleep(time.Until(from))
	before, err := look(o.pid)
	if err != nil {
		return result{}, err
	}
	time.Sleep(time.Until(to))
	after, err := look(o.pid)
	if err != nil {
		return result{}, err
	}
	if err := <-failed; err != nil {
		return result{}, err
	}

	all := slices.Concat(taken...)
	if len(all) == 0 {
		return result{}, fmt.Errorf("no answer within %v s", o.seconds)
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return micros(all[min(len(all)-1, int(share*float64(len(all))))])
	}
	each := func(spent time.Duration) float64 { return micros(spent) / float64(len(all)) }
	spent := after.since(before)
	return result{
		Server: o.name, Client: o.client, Operation: o.op, Connections: o.connections, ValueBytes: o.size,
		Seconds: o.seconds, Operations: len(all), PerSecond: float64(len(all)) / o.seconds,
		Service:   times{at(0.5), at(0.99), at(0.999), at(1)},
		ServerCPU: each(spent.scheduled), ServerCPUTicks: each(spent.ticks), ServerRSS: after.rss,
		ClientCPU:  each(spent.own),
		ClientBusy: spent.own.Seconds() / o.seconds / float64(runtime.GOMAXPROCS(0)),
	}, nil
}

// operation is what connection i does each time. Whoever runs twice gets the same keys in the same order.
func operation(o options, one store, i int, names []string, dir string) (func() error, error) {
	dice := rand.New(rand.NewPCG(1, uint64(i)))
	value := make([]byte, o.size)
	switch o.op {
	case "get":
		return func() error {
			key := names[dice.IntN(len(names))]
			got, err := one.get(key)
			if err == nil && len(got) != o.size {
				err = fmt.Errorf("%s has %d bytes", key, len(got))
			}
			return err
		}, nil
	case "set":
		return func() error { return one.set(names[dice.IntN(len(names))], value) }, nil
	case "create":
		made := 0
		return func() error {
			made++
			return one.create(fmt.Sprintf("%s/c%03d-%08d", dir, i, made), value)
		}, nil
	}
	return nil, fmt.Errorf("no such operation: %s", o.op)
}

// loop returns the service time of each request that was answered between from and to.
func loop(next func() error, from, to time.Time) ([]time.Duration, error) {
	taken := make([]time.Duration, 0, 1<<14)
	begun := time.Now()
	for begun.Before(to) {
		if err := next(); err != nil {
			return nil, err
		}
		ended := time.Now()
		if !ended.Before(from) && ended.Before(to) {
			taken = append(taken, ended.Sub(begun))
		}
		begun = ended
	}
	return taken, nil
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
