{{- define "portcullis.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "portcullis.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "portcullis.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "portcullis.mostReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ int .Values.autoscaling.maxReplicas }}{{ else }}{{ int .Values.replicas }}{{ end -}}
{{- end -}}

{{/* Refuses values that would make pods disagree about tokens, limits or revocations. */}}
{{- define "portcullis.checks" -}}
{{- $most := include "portcullis.mostReplicas" . | int -}}
{{- $shared := .Values.config.shared | default dict -}}
{{- $oauth := .Values.config.oauth | default dict -}}
{{- $keys := $oauth.signing_keys | default dict -}}
{{- if and (gt $most 1) (not $shared.redis) -}}
{{- fail "several replicas need config.shared.redis: without it each pod counts rate limits and revokes tokens for itself" -}}
{{- end -}}
{{- if and (gt $most 1) .Values.state.existingClaim -}}
{{- fail "state.existingClaim is for one replica: each replica needs a state directory of its own" -}}
{{- end -}}
{{- if and $oauth (ne (toString $keys.in) "postgres") (or (gt $most 1) (not .Values.state.existingClaim)) -}}
{{- fail "config.oauth needs config.oauth.signing_keys.in: postgres, or one replica with state.existingClaim: with keys in an emptyDir, each pod refuses the tokens of the others, and all tokens end with the pod" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is greater than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and .Values.migrate (not $shared.postgres) -}}
{{- fail "migrate needs config.shared.postgres" -}}
{{- end -}}
{{- if and (or .Values.listener.believe .Values.listener.proxyProtocol) (not .Values.config.trusted_proxies) -}}
{{- fail "listener.believe and listener.proxyProtocol need config.trusted_proxies, the networks of the load balancer" -}}
{{- end -}}
{{- if and .Values.metrics.enabled (not .Values.metrics.allowFrom) -}}
{{- fail "metrics.enabled needs metrics.allowFrom, the networks that may read the metrics" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.enabled) -}}
{{- fail "metrics.serviceMonitor.enabled needs metrics.enabled" -}}
{{- end -}}
{{- end -}}

{{/* The whole of gateway.yaml. */}}
{{- define "portcullis.config" -}}
{{- $listener := dict "address" (printf "0.0.0.0:%d" (int .Values.listener.port)) -}}
{{- if .Values.tls.secretName -}}
{{- $_ := set $listener "tls" (dict "certificates" (list (dict "cert" "certs/tls.crt" "key" "certs/tls.key"))) -}}
{{- end -}}
{{- with .Values.listener.believe -}}
{{- $_ := set $listener "believe" . -}}
{{- end -}}
{{- if .Values.listener.proxyProtocol -}}
{{- $_ := set $listener "proxy_protocol" true -}}
{{- end -}}
{{- $admin := dict "address" (printf "127.0.0.1:%d" (int .Values.metrics.port)) -}}
{{- if .Values.metrics.enabled -}}
{{- $admin = dict "address" (printf "0.0.0.0:%d" (int .Values.metrics.port)) "allow_from" .Values.metrics.allowFrom -}}
{{- end -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "version" 1 -}}
{{- $_ := set $config "listeners" (list $listener) -}}
{{- $_ := set $config "probes" (dict "address" (printf "0.0.0.0:%d" (int .Values.probes.port))) -}}
{{- $_ := set $config "admin" $admin -}}
{{- $_ := set $config "state_directory" "/var/lib/portcullis/state" -}}
{{- $_ := set $config "reload" (dict "watch" true) -}}
{{- $_ := set $config "shutdown" (dict "delay" (printf "%ds" (int .Values.shutdown.delaySeconds)) "drain" (printf "%ds" (int .Values.shutdown.drainSeconds))) -}}
{{- $audit := $config.audit | default dict -}}
{{- if not (hasKey $audit "file") -}}
{{- $_ := set $config "audit" (set $audit "file" "-") -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* A change of these keys replaces the pods. The running gateway reloads all others. */}}
{{- define "portcullis.restart" -}}
{{- $config := include "portcullis.config" . | fromYaml -}}
{{- $keys := ($config.oauth | default dict).signing_keys | default dict -}}
{{- list $config.workers $config.shared $config.state_directory ($config.audit | default dict).file $keys.in $keys.directory | toJson | sha256sum | trunc 16 -}}
{{- end -}}

{{/* The keys that all containers of the pod have in common. */}}
{{- define "portcullis.container" -}}
image: {{ include "portcullis.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
{{- with .Values.env }}
env: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: configuration, mountPath: /etc/portcullis, readOnly: true}
  - {name: state, mountPath: /var/lib/portcullis}
{{- end -}}
