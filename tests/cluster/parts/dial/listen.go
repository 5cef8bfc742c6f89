package main

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"time"
)

// listen answers on all addresses of its namespace until it is ended.
func listen(arguments []string) {
	flags := flag.NewFlagSet("listen", flag.ExitOnError)
	name := flags.String("name", "", "what to call itself; the host name if empty")
	_ = flags.Parse(arguments)
	if *name == "" {
		*name, _ = os.Hostname()
	}
	if flags.NArg() == 0 {
		fail("listen takes at least one port")
	}
	failed := make(chan error)
	for _, port := range flags.Args() {
		go func() { failed <- listenTCP(*name, port) }()
		go func() { failed <- listenUDP(port) }()
	}
	fail((<-failed).Error())
}

func listenTCP(name, port string) error {
	listener, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go answer(name, connection)
	}
}

// answer speaks HTTP to who speaks HTTP, and echoes everything else.
func answer(name string, connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, 4096)
	for {
		_ = connection.SetReadDeadline(time.Now().Add(time.Minute))
		read, err := connection.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(buffer[:read], []byte(" HTTP/1.")) {
			body := fmt.Sprintf("%s %s asked by %s\n", name, connection.LocalAddr(), connection.RemoteAddr())
			fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"+
				"Connection: close\r\n\r\n%s", len(body), body)
			return
		}
		if _, err := connection.Write(buffer[:read]); err != nil {
			return
		}
	}
}

func listenUDP(port string) error {
	connection, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	buffer := make([]byte, 64*1024)
	for {
		read, from, err := connection.ReadFrom(buffer)
		if err != nil {
			return err
		}
		// An echo that cannot be sent is the caller's timeout.
		_, _ = connection.WriteTo(buffer[:read], from)
	}
}
