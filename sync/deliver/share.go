package deliver

import (
	"sync"
	"time"
)

// share spaces the requests of a delivery that may use only a part of its credential's rate, so that others keep the rest. At a rate
// that is not known it holds nobody up. Safe for concurrent use.
type share struct {
	part float64
	rate func() float64 // requests a second that the credential may make now; 0 = not known
	now  func() time.Time

	mu   sync.Mutex
	next time.Time
}

// take reserves the next place and tells how far off it is.
func (s *share) take() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	rate := s.part * s.rate()
	if rate <= 0 {
		return 0
	}
	now := s.now()
	if s.next.Before(now) {
		s.next = now
	}
	due := s.next.Sub(now)
	s.next = s.next.Add(time.Duration(float64(time.Second) / rate))
	return due
}
