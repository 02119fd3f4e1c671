{{/*
A list of {volume, mount}, so that no volume lacks its mount.
*/}}
{{- define "gpu-sharing-plugin.volumes" -}}
{{- $kubelet := .Values.kubeletDir | trimSuffix "/" }}
{{- $cdi := has "cdi" (splitList " " (include "gpu-sharing-plugin.needs" .)) }}
- volume: {name: device-plugins, hostPath: {path: {{ .Values.devicePluginDir | quote }}, type: Directory}}
  mount: {mountPath: /var/lib/kubelet/device-plugins}
- volume: {name: pod-resources, hostPath: {path: {{ printf "%s/pod-resources" $kubelet | quote }}, type: Directory}}
  mount: {mountPath: /var/lib/kubelet/pod-resources, readOnly: true}
- volume: {name: state, hostPath: {path: {{ .Values.stateDir | quote }}, type: DirectoryOrCreate}}
  mount: {mountPath: /var/lib/gpu-sharing-plugin}
{{- include "gpu-sharing-plugin.runtimeVolume" . }}
{{- if $cdi }}
- volume: {name: cdi, hostPath: {path: /var/run/cdi, type: DirectoryOrCreate}}
  mount: {mountPath: /var/run/cdi}
{{- end }}
{{- if .Values.nvidiaDriverRoot }}
- volume: {name: driver-root, hostPath: {path: {{ .Values.nvidiaDriverRoot | quote }}, type: Directory}}
  mount: {mountPath: /driver-root, readOnly: true, mountPropagation: HostToContainer}
{{- else if $cdi }}
{{- /* Of the host's root only what nvidia-ctk looks into: not /etc, /root and /var, with the node's secrets. */}}
{{- range $folder := list "usr" "lib" "dev" }}
- volume: {name: driver-{{ $folder }}, hostPath: {path: /{{ $folder }}, type: Directory}}
  mount: {mountPath: /driver-root/{{ $folder }}, readOnly: true, mountPropagation: HostToContainer}
{{- end }}
{{- end }}
{{- if .Values.wsl }}
{{- /* At the same path: the libraries find each other by it. */}}
- volume: {name: wsl, hostPath: {path: /usr/lib/wsl, type: Directory}}
  mount: {mountPath: /usr/lib/wsl, readOnly: true, mountPropagation: HostToContainer}
{{- end }}
{{- /* A driver's own folder has no nvidia-ctk: that is on the host, or where the GPU operator installs it there. */}}
{{- if and $cdi (ne (.Values.nvidiaDriverRoot | default "/") "/") }}
{{- $folders := list "/usr/local" "/usr/bin" }}
{{- with .Values.cdi.nvidiaHookPath }}
{{- /* The GPU operator deletes its folder "toolkit" and creates it again, so the one above is mounted. */}}
{{- $folder := eq (dir . | base) "toolkit" | ternary (dir . | dir) (dir .) }}
{{- if not (or (hasPrefix "/usr/local/" (print $folder "/")) (hasPrefix "/usr/bin/" (print $folder "/"))) }}
{{- $folders = append $folders $folder }}
{{- end }}
{{- end }}
{{- range $place, $folder := $folders }}
- volume: {name: host-tools-{{ $place }}, hostPath: {path: {{ $folder | quote }}, type: DirectoryOrCreate}}
  mount: {mountPath: {{ print "/host" $folder | quote }}, readOnly: true, mountPropagation: HostToContainer}
{{- end }}
{{- end }}
{{- include "gpu-sharing-plugin.configVolumes" . }}
{{- with .Values.metrics.tls.secret }}
- volume: {name: tls, secret: {secretName: {{ . | quote }}}}
  mount: {mountPath: /tls, readOnly: true}
{{- end }}
{{- with .Values.metrics.tokenSecret.name }}
- volume: {name: token, secret: {secretName: {{ . | quote }}}}
  mount: {mountPath: /token, readOnly: true}
{{- end }}
{{- if .Values.usage.perContainer }}
- volume: {name: pod-logs, hostPath: {path: /var/log/pods, type: DirectoryOrCreate}}
  mount: {mountPath: /var/log/pods, readOnly: true}
- volume: {name: container-logs, hostPath: {path: /var/log/containers, type: DirectoryOrCreate}}
  mount: {mountPath: /var/log/containers, readOnly: true}
{{- end }}
{{- if and (eq (include "gpu-sharing-plugin.nodeLabels" .) "file") (not (include "gpu-sharing-plugin.mountsFeatures" .)) }}
- volume: {name: features, hostPath: {path: {{ include "gpu-sharing-plugin.featuresFolder" . }}, type: DirectoryOrCreate}}
  mount: {mountPath: {{ include "gpu-sharing-plugin.featuresFolder" . }}}
{{- end }}
{{- end }}

{{/* The volumes with what both services read. */}}
{{- define "gpu-sharing-plugin.configVolumes" -}}
{{- if or (include "gpu-sharing-plugin.configMapName" .) (include "gpu-sharing-plugin.settings" .) }}
- volume: {name: config, configMap: {name: {{ include "gpu-sharing-plugin.configMapName" . | default (printf "%s-settings" (include "gpu-sharing-plugin.fullname" .)) | quote }}}}
  mount: {mountPath: /config, readOnly: true}
{{- end }}
{{- if .Values.simulatedNode }}
- volume: {name: node, configMap: {name: {{ printf "%s-node" (include "gpu-sharing-plugin.fullname" .) | quote }}}}
  mount: {mountPath: /node, readOnly: true}
{{- end }}
{{- end }}

{{/* By the sockets in this folder, the service for MPS tells the plugin of its daemons. */}}
{{- define "gpu-sharing-plugin.runtimeVolume" -}}
{{- if include "gpu-sharing-plugin.mps" . }}
- volume: {name: runtime, hostPath: {path: /run/gpu-sharing-plugin, type: DirectoryOrCreate}}
{{- else }}
- volume: {name: runtime, emptyDir: {medium: Memory}}
{{- end }}
  mount: {mountPath: /run/gpu-sharing-plugin}
{{- end }}

{{/*
The volumes of the service for MPS. What it mounts below the root must be on the host too, for the containers that
use MPS, and outlive it: Bidirectional. In /dev/shm the daemons share memory with their clients.
*/}}
{{- define "gpu-sharing-plugin.mpsVolumes" -}}
{{- $root := .Values.mps.root | trimSuffix "/" }}
{{- include "gpu-sharing-plugin.runtimeVolume" . }}
- volume: {name: state, hostPath: {path: {{ .Values.mps.stateDir | quote }}, type: DirectoryOrCreate}}
  mount: {mountPath: /var/lib/gpu-sharing-plugin}
- volume: {name: mps-root, hostPath: {path: {{ $root | quote }}, type: DirectoryOrCreate}}
  mount: {mountPath: {{ $root | quote }}, mountPropagation: Bidirectional}
- volume: {name: mps-shm, hostPath: {path: {{ print $root "/shm" | quote }}, type: DirectoryOrCreate}}
  mount: {mountPath: /dev/shm, mountPropagation: HostToContainer}
{{- if .Values.nvidiaDriverRoot }}
- volume: {name: driver-root, hostPath: {path: {{ .Values.nvidiaDriverRoot | quote }}, type: Directory}}
  mount: {mountPath: /driver-root, readOnly: true, mountPropagation: HostToContainer}
{{- end }}
{{- include "gpu-sharing-plugin.configVolumes" . }}
{{- end }}
