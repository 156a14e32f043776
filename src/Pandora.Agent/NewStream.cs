using Pandora.Agent.Files;
using Pandora.Agent.Ports;
using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Agent.Transport;

namespace Pandora.Agent;

/// <summary>A stream whose first message has not come yet: its kind says what serves the stream.</summary>
internal sealed class NewStream
{
    private readonly byte[] _header = new byte[ProcessMessages.HeaderSize];
    private readonly AgentStream _stream;
    private readonly Action<AgentStream, byte[]> _openProcess;
    private readonly FileRequests _files;
    private readonly GuestPorts _ports;
    private int _count;

    /// <param name="stream">The stream.</param>
    /// <param name="openProcess">Serves a stream about processes, whose first bytes were read already.</param>
    /// <param name="files">Serves requests for files.</param>
    /// <param name="ports">Serves requests about ports.</param>
    public NewStream(AgentStream stream, Action<AgentStream, byte[]> openProcess, FileRequests files, GuestPorts ports)
    {
        (_stream, _openProcess, _files, _ports) = (stream, openProcess, files, ports);
        stream.Changed = Read;
        Read();
    }

    private void Read()
    {
        while (_count < _header.Length)
        {
            var count = _stream.Read(_header.AsSpan(_count));
            if (count == 0)
            {
                if (_stream.IsClosed)
                {
                    _stream.End();
                }

                return;
            }

            _count += count;
        }

        if (FileMessages.IsFile((ProcessMessage)_header[4]))
        {
            _ = new FileSession(_stream, _header, _files);
        }
        else if (PortMessages.IsPort((ProcessMessage)_header[4]))
        {
            _ = new PortSession(_stream, _header, _ports);
        }
        else
        {
            _openProcess(_stream, _header);
        }
    }
}
