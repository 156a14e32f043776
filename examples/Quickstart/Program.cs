using Pandora.Client;

var url = args.Length > 0 ? args[0] : "http://127.0.0.1:8000";

using var pandora = new PandoraClient(url);
await using var sandbox = await pandora.CreateAsync(idleTimeout: TimeSpan.FromMinutes(2));
Console.WriteLine($"claimed in {sandbox.AcquireMs} ms");

var hello = await sandbox.ExecAsync("echo hello > /root/greeting && uname -sm");
Console.WriteLine($"{hello.Stdout.Trim()} ({hello.ExecMs} ms)");

var kept = await sandbox.ExecAsync("cat /root/greeting; exit 3");
Console.WriteLine($"{kept.Stdout.Trim()}, exit code {kept.ExitCode}");
