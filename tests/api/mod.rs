//! Portcullis as a real kube-apiserver sees it.

mod installation;

mod objects;

mod forwarder;

mod reviews;

mod control_plane;

mod rules;

mod kinds;

mod fields;

mod references;

mod producers;

mod labels;

mod exemptions;

mod terminal;

mod reach;

mod controllers;

mod rollout;

mod ratchet;

mod rollback;

mod patching;

mod injection;

mod injectors;

mod autoscaling;

mod doctor;

mod audit;

mod report;

mod why;

mod parity;

mod settings;

mod outage;

mod self_proof;

mod replicas;

mod certificates;

mod departure;

mod overload;

mod manifests;

mod samples;

mod lifecycle;

mod glass;

mod dead;

mod hanging;

mod overlays;
