// Program dial is the tool inside the pods of a test cluster and on its test host: it dials, listens, and
// waits. It has no dependencies and needs no files, so an image may hold nothing but it.
//
//	dial try [-udp] [-timeout 2s] HOST:PORT...      one line for each: open|refused|timeout|failed ADDRESS TIME
//	dial watch [-udp] [-for 3s] [-every 10ms] HOST:PORT  tries from its first instruction on; prints when it got through
//	dial listen [-name NAME] PORT...                echoes on TCP and UDP; answers HTTP requests with its addresses
//	dial get URL                                    prints the body of an HTTP answer
//	dial resolve NAME...                            prints the addresses that the name server gives
//	dial pause                                      waits for SIGTERM and reaps orphans
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const commands = "try, watch, listen, get, resolve, pause"

func main() {
	if len(os.Args) < 2 {
		fail("the first argument is one of: " + commands)
	}
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "try":
		try(arguments)
	case "watch":
		watch(arguments)
	case "listen":
		listen(arguments)
	case "get":
		get(arguments)
	case "resolve":
		resolve(arguments)
	case "pause":
		pause()
	default:
		fail(fmt.Sprintf("no command %q: it is one of: %s", os.Args[1], commands))
	}
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, "dial:", reason)
	os.Exit(2)
}

// once dials one time; with UDP an echo has to come back.
func once(udp bool, address string, timeout time.Duration) error {
	network := "tcp4"
	if udp {
		network = "udp4"
	}
	connection, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return err
	}
	defer connection.Close()
	if !udp {
		return nil
	}
	if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := connection.Write([]byte("dial")); err != nil {
		return err
	}
	_, err = connection.Read(make([]byte, 16))
	return err
}

func word(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "open"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "failed"
}

// try exits 0 when all addresses are open.
func try(arguments []string) {
	flags := flag.NewFlagSet("try", flag.ExitOnError)
	udp := flags.Bool("udp", false, "UDP instead of TCP")
	timeout := flags.Duration("timeout", 2*time.Second, "how long to wait for each")
	_ = flags.Parse(arguments)
	lines := make([]string, flags.NArg())
	closed := false
	var wait sync.WaitGroup
	var lock sync.Mutex
	for index, address := range flags.Args() {
		wait.Go(func() {
			began := time.Now()
			err := once(*udp, address, *timeout)
			lock.Lock()
			defer lock.Unlock()
			closed = closed || err != nil
			lines[index] = fmt.Sprintf("%s %s %.1fms", word(err), address, milliseconds(time.Since(began)))
			if word(err) == "failed" {
				lines[index] += " " + err.Error()
			}
		})
	}
	wait.Wait()
	for _, line := range lines {
		fmt.Println(line)
	}
	if closed {
		os.Exit(1)
	}
}

// watch sends a new attempt at every tick and does not wait for the answer of the last one.
func watch(arguments []string) {
	began := time.Now()
	flags := flag.NewFlagSet("watch", flag.ExitOnError)
	udp := flags.Bool("udp", false, "UDP instead of TCP")
	length := flags.Duration("for", 3*time.Second, "how long to try")
	every := flags.Duration("every", 10*time.Millisecond, "time between attempts")
	_ = flags.Parse(arguments)
	if flags.NArg() != 1 {
		fail("watch takes one HOST:PORT")
	}
	var lock sync.Mutex
	var wait sync.WaitGroup
	var first, last time.Duration
	attempts, opened := 0, 0
	for time.Since(began) < *length {
		attempts++
		wait.Go(func() {
			at := time.Since(began)
			// Shorter than the first retransmission of a SYN (1 s), so that `at` is when the packet passed.
			err := once(*udp, flags.Arg(0), 500*time.Millisecond)
			if err != nil {
				return
			}
			lock.Lock()
			defer lock.Unlock()
			if opened == 0 || at < first {
				first = at
			}
			last = max(last, at)
			opened++
		})
		time.Sleep(*every)
	}
	wait.Wait()
	fmt.Printf("attempts=%d open=%d first_ms=%.1f last_ms=%.1f\n", attempts, opened, milliseconds(first), milliseconds(last))
}

func milliseconds(length time.Duration) float64 { return float64(length.Microseconds()) / 1000 }

// pause is the first process of a pod's sandbox.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
