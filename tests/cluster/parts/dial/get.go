package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// get exits 0 only for an answer of status 200.
func get(arguments []string) {
	if len(arguments) != 1 {
		fail("get takes one URL")
	}
	client := http.Client{Timeout: 3 * time.Second}
	answer, err := client.Get(arguments[0])
	if err != nil {
		fail(err.Error())
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		fail(err.Error())
	}
	if answer.StatusCode != http.StatusOK {
		fail(answer.Status)
	}
}

// resolve prints one line for each name: the name and its addresses, or the word `none`.
func resolve(names []string) {
	deadline, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, name := range names {
		addresses, err := net.DefaultResolver.LookupHost(deadline, name)
		if err != nil {
			fmt.Println(name, "none:", err)
			continue
		}
		fmt.Println(name, strings.Join(addresses, " "))
	}
}
