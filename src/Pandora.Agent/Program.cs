using Pandora.Agent.Control;
using Pandora.Agent.Files;
using Pandora.Agent.Ports;
using Pandora.Agent.Processes;
using Pandora.Agent.Protocol;
using Pandora.Agent.Transport;

namespace Pandora.Agent;

/// <summary>
/// The agent. PID 1 starts it, and starts it again when it ends. One thread answers the server's questions about the guest, one connection
/// at a time; the other one serves streams. With <c>--stdio</c> it serves the streams of one SSH session, and ends with it.
/// </summary>
internal static class Program
{
    private const int NoDevice = 3;

    /// <summary>Whether the agent runs before all ordinary processes of the guest.</summary>
    public static bool HasPrecedence { get; private set; }

    private static int Main(string[] arguments)
    {
        Linux.RaiseFileLimit(1_048_576);
        // A guest in which every processor is wanted must stay under control. Processes that the agent starts do not inherit this.
        HasPrecedence = Linux.TryTakePrecedence();
        ShellCode.RememberBash();
        return arguments is ["--stdio"] ? ServeSshSession() : ServeDevices();
    }

    private static int ServeDevices()
    {
        if (Devices.FindSerialPort(AgentProtocol.SerialPort) is { } control)
        {
            new Thread(() => Control(control), 256 * 1024) { IsBackground = true }.Start();
            return Devices.FindSerialPort(AgentProtocol.StreamSerialPort) is { } streams ? ServeSerialPort(streams) : WaitForEver();
        }

        int listener;
        try
        {
            listener = Linux.ListenVsock(AgentProtocol.VsockPort, isWaiting: true);
        }
        catch (IOException)
        {
            // The guest has neither device: PID 1 starts an SSH server instead.
            return NoDevice;
        }

        new Thread(() => ControlByVsock(listener), 256 * 1024) { IsBackground = true }.Start();
        return ServeVsock();
    }

    private static int ServeSerialPort(string path)
    {
        using var loop = new EventLoop();
        var opened = Serve(loop, new ProcessTable(loop), new FileRequests(loop));
        CommandCgroup.RemoveEmpty();
        var port = Linux.OpenWithoutWaiting(path);
        var transport = new ChannelTransport(loop, port, port, opened, ended: null);
        loop.Handled = transport.Flush;
        loop.Run();
        return 0;
    }

    private static int ServeVsock()
    {
        using var loop = new EventLoop();
        var opened = Serve(loop, new ProcessTable(loop), new FileRequests(loop));
        CommandCgroup.RemoveEmpty();
        var transport = new VsockTransport(loop, opened);
        loop.Handled = transport.Flush;
        loop.Run();
        return 0;
    }

    private static int ServeSshSession()
    {
        using var loop = new EventLoop();
        var processes = new ProcessTable(loop);
        var files = new FileRequests(loop);
        var opened = Serve(loop, processes, files);
        Linux.StopWaiting(0);
        Linux.StopWaiting(1);
        var transport = new ChannelTransport(loop, 0, 1, opened, () =>
        {
            // The server has gone, and nothing else could end what clients wait for.
            foreach (var process in processes.All.Where(p => p.End is null))
            {
                process.Kill(_ => { });
            }

            files.CancelAll(milliseconds: 1000);
            Environment.Exit(0);
        });
        loop.Handled = transport.Flush;
        loop.Run();
        return 0;
    }

    private static Action<AgentStream> Serve(EventLoop loop, ProcessTable processes, FileRequests files)
    {
        var ports = new GuestPorts(loop, new SshServer(loop, new SshFiles(), SshProcess.Start));
        return stream => _ = new NewStream(stream, (s, begun) => _ = new ProcessSession(s, begun, processes), files, ports);
    }

    private static void Control(string path)
    {
        var port = Linux.Open(path);
        var session = new ControlSession(port);
        session.Announce();
        while (true)
        {
            session.Run();
            // The host's end of the port is not open. Each read would return at once, so pause before the next.
            Linux.Pause(250);
        }
    }

    private static void ControlByVsock(int listener)
    {
        while (true)
        {
            var connection = Linux.Accept(listener);
            if (connection < 0)
            {
                Linux.Pause(50);
                continue;
            }

            var session = new ControlSession(connection);
            session.Announce();
            session.Run();
            Linux.Close(connection);
        }
    }

    private static int WaitForEver()
    {
        Thread.CurrentThread.Join();
        return 0;
    }
}
