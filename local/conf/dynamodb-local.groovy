// Starts DynamoDB Local on the loopback address: its own main class has no option for that and listens on every interface.
import software.amazon.dynamodb.services.local.main.ServerRunner

def proxy = ServerRunner.createServerFromCommandLineArgs(args.tail())
proxy.@server.connectors.each { it.host = args.head() }
proxy.start()
proxy.join()
