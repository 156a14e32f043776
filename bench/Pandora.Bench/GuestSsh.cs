using System.Text.Json;
using Pandora.Client;
using Pandora.Linux;

namespace Pandora.Bench;

/// <summary>
/// The reference for files: dropbear in a sandbox's guest, started by this class, and OpenSSH's programs on this host.
/// </summary>
internal sealed class GuestSsh
{
    private readonly string _address, _key;

    private GuestSsh(string address, string key) => (_address, _key) = (address, key);

    private string[] Options =>
    [
        "-q", "-i", _key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
        "-o", "IdentitiesOnly=yes",
    ];

    public static async Task<GuestSsh> StartAsync(BenchServer server, Sandbox sandbox, string work)
    {
        var key = Path.Combine(work, "key");
        await Command.RunAsync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
        var publicKey = (await File.ReadAllTextAsync(key + ".pub")).Trim();
        var started = await sandbox.ExecAsync(
            "mkdir -p /root/.ssh /etc/dropbear && chmod 700 /root /root/.ssh && printf '%s\\n' \"$KEY\" > /root/.ssh/authorized_keys"
            + " && chmod 600 /root/.ssh/authorized_keys"
            + " && dropbearkey -t ed25519 -f /etc/dropbear/bench_key > /dev/null 2>&1"
            + " && dropbear -s -j -k -W 1048576 -r /etc/dropbear/bench_key -p 22",
            new ExecOptions { Environment = new Dictionary<string, string> { ["KEY"] = publicKey } });
        if (started.ExitCode != 0)
        {
            throw new InvalidOperationException($"dropbear did not start: {started.Stderr}");
        }

        using var record = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(server.RunDir, sandbox.Id, "record.json")));
        var ssh = new GuestSsh(record.RootElement.GetProperty("address").GetString()!, key);
        await RunAsync(["ssh", .. ssh.Options, $"root@{ssh._address}", "true"]);
        return ssh;
    }

    public Task CopyUpAsync(string local, string remote) => RunAsync(["scp", .. Options, local, $"root@{_address}:{remote}"]);

    public Task CopyDownAsync(string remote, string local) => RunAsync(["scp", .. Options, $"root@{_address}:{remote}", local]);

    public Task PackUpAsync(string local, string remote) => RunAsync(
    [
        "sh", "-c", $"tar -C \"$0\" -cf - . | ssh {string.Join(' ', Options)} root@{_address} 'mkdir -p {remote} && tar -C {remote} -xf -'",
        local,
    ]);

    private static Task RunAsync(string[] arguments) => Command.RunAsync(arguments[0], arguments[1..]);
}
