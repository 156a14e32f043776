using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.Prove.Checks;

/// <summary>Attempts to connect, from a guest and to a guest.</summary>
internal static class Reachability
{
    private const string Serve =
        "python3 -c \"\nimport socket, threading\ns = socket.create_server(('0.0.0.0', 7000))\nwhile True:\n    c, _ = s.accept(); "
            + "c.send(b'hello'); c.close()\n\" > /dev/null 2>&1 &";

    /// <summary>The command that connects from a guest and prints what the listener sends.</summary>
    public static string Connect(string address) => $"timeout 8 bash -c 'exec 3<> /dev/tcp/{address}/{Stage.Port} && head -c 5 <&3'";

    public static async Task MustReachAsync(Sandbox sandbox, string address)
    {
        var result = await sandbox.ExecAsync(Connect(address));
        TestHostException.Require(
            result.Stdout == "hello", $"{address} was not reached: exit code {result.ExitCode}, {result.Stdout}{result.Stderr}");
    }

    public static async Task<string> MustBeRefusedAsync(Sandbox sandbox, string address)
    {
        var result = await sandbox.ExecAsync(
            $"s=$EPOCHREALTIME; exec 3<> /dev/tcp/{address}/{Stage.Port}; c=$?; echo $c $(( (${{EPOCHREALTIME/./}} - ${{s/./}}) / 1000 ))");
        var words = result.Stdout.Trim().Split(' ');
        TestHostException.Require(words[0] == "1", $"{address} was reached");
        // The kernel gives up after two minutes without an answer. A refusal comes at once, even in a slow guest.
        TestHostException.Require(int.Parse(words[1]) < 20_000, $"{address} refused only after {words[1]} ms: {result.Stderr}");
        return $"refused in {words[1]} ms; connects without the rules";
    }

    /// <summary>Starts a TCP service in a guest that sends hello.</summary>
    public static async Task ServeAsync(Sandbox sandbox)
    {
        await sandbox.ExecAsync(Serve);
        var answer = "";
        for (var i = 0; i < 20 && answer != "hello"; i++)
        {
            answer = (await sandbox.ExecAsync(Connect("127.0.0.1"))).Stdout;
        }

        TestHostException.Require(answer == "hello", $"the service in the guest did not start: {answer}");
    }

    /// <summary>Whether a namespace of the world can connect to an address.</summary>
    public static async Task<bool> CanConnectAsync(NetworkNamespace from, string address)
    {
        using var socket = from.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(3), TimeProvider.System);
        try
        {
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Parse(address), Stage.Port), limit.Token);
            return true;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            return false;
        }
    }
}
