using Pandora.Client;

var url = args.Length > 0 ? args[0] : "http://127.0.0.1:8000";

using var pandora = new PandoraClient(url);
await using var sandbox = await pandora.CreateAsync();
await sandbox.ExecAsync("echo hello > /root/greeting");
var result = await sandbox.ExecAsync("cat /root/greeting; exit 3");
Console.WriteLine($"{result.Stdout.Trim()}, exit code {result.ExitCode}, created in {sandbox.AcquireTime?.TotalMilliseconds} ms");
