// Command kubectl is what its name says: apart from package kube, for it is started thousands of times, and a program
// of all components takes twice as long to begin.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
)

func main() {
	os.Exit(cli.Run(cmd.NewDefaultKubectlCommand()))
}
