package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// sink is the local HTTP server that both ways of delivering talk to: it reads each body to its end and answers 204. It keeps
// the first bodies, so that the bare loop can post the same bytes, and knows when the first request came and the last ended.
type sink struct {
	server *http.Server
	url    string
	keep   int

	mu          sync.Mutex
	bodies      [][]byte
	requests    int
	first, last time.Time
	used        [2]time.Duration // processor time of this process at first and at last
}

func startSink(ctx context.Context, keep int) (*sink, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{url: "http://" + listener.Addr().String() + "/", keep: keep}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go s.server.Serve(listener) //nolint:errcheck // it always ends with ErrServerClosed
	return s, nil
}

func (s *sink) close() error { return s.server.Close() }

// ServeHTTP reads and forgets, but for the first bodies.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.requests == 0 {
		s.first, s.used[0] = time.Now(), processorTime()
	}
	s.requests++
	keep := len(s.bodies) < s.keep
	s.mu.Unlock()
	if keep {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "reading the body", http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.bodies = append(s.bodies, body)
		s.mu.Unlock()
	} else if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, "reading the body", http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
	s.mu.Lock()
	s.last, s.used[1] = time.Now(), processorTime()
	s.mu.Unlock()
}

// reset begins a new count and keeps the bodies.
func (s *sink) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = 0
}

// span is how many requests came since reset, the time from the first one's arrival to the last one's answer, and the processor
// time that went by meanwhile.
func (s *sink) span() (requests int, took, used time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.last.Sub(s.first), s.used[1] - s.used[0]
}

// postBare posts n ready-made bodies with as many workers, in turn: what no program that makes its bodies can beat.
func postBare(ctx context.Context, url string, bodies [][]byte, n, workers int) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}}
	defer client.CloseIdleConnections()
	work := make(chan []byte)
	failed := make(chan error, workers)
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for body := range work {
				if err := post(ctx, client, url, body); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
feed:
	for i := range n {
		select {
		case work <- bodies[i%len(bodies)]:
		case err = <-failed:
			break feed
		}
	}
	close(work)
	done.Wait()
	return err
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the sink answered %s", resp.Status)
	}
	return nil
}

// bareRate is the best rate, in requests a second, of one, two and four workers posting n bodies, and the least processor time.
func bareRate(ctx context.Context, s *sink, n int) (rate float64, least time.Duration, err error) {
	for _, workers := range []int{1, 2, 4} {
		s.reset()
		if err := postBare(ctx, s.url, s.bodies, n, workers); err != nil {
			return 0, 0, err
		}
		requests, took, used := s.span()
		rate = max(rate, float64(requests)/took.Seconds())
		if least == 0 || used < least {
			least = used
		}
	}
	return rate, least, nil
}
